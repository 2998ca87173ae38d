"""What fits this library to others; each module needs the package that it is named after."""
