"""From what the authors of a data set hand out to the layout that its reader expects."""
