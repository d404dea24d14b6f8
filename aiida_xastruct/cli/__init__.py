"""Command lines: `aiida-xastruct`, and `verdi data xastruct`. Nothing else imports this package."""
