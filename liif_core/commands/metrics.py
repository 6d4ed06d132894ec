"""The command `liif metrics`: what test.py and validation can measure, from the table of metrics."""

from liif_core.report import config_reference
from liif_core.system.arguments import Parser
from liif_core.system.text import print_table


def main() -> int:
    """Print the table; returns the exit status."""
    parser = Parser(description="List the metrics that a config may name.")
    parser.parse_args()
    table = config_reference.metrics_table()
    print_table(table.header, [[str(cell).replace("`", "") for cell in row] for row in table.rows])
    return 0
