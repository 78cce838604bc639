"""What an employee does next: types and decisions, sync and pure."""
