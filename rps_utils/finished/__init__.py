"""What a finished run can do: judge new patients, and be audited."""
