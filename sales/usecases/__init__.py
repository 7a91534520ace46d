"""What sales can do, one use case a file. Each checks who asks, lets the core decide, and writes at once."""
