"""What must hold for an option file before a run can start."""
