"""The package as a whole: what it exports, how its layers import each other, and its wheel."""
