"""Every metric and every event, declared once."""
