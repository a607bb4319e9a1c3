"""A mail-catching SMTP server with scripted replies and faults; never for production mail."""
