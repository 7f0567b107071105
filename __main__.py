"""`python -m kdexport`."""

from .cli.main import main

main()
