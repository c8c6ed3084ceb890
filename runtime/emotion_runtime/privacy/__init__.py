"""What may leave the program: zones that are never analysed, people hidden in images, events without ids."""
