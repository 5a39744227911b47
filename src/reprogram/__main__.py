"""`python -m reprogram`, which is also what torchrun starts."""

from reprogram.cli import main

main()
