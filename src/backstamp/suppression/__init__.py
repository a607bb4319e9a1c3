"""The suppression list as a shell: its file, its thread, its place beside the queue."""
