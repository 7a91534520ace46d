"""Generated protocol code; see the .proto files."""
