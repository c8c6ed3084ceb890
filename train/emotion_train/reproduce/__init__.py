"""Make the tables and figures of the paper: train and measure its variants, with its numbers beside."""
