"""One park day, end to end, on a stack of its own: `parkgate demo`. What happens is in `stories`, how in `day`."""
