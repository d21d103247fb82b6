"""What people see and press. Reads the historian; acts only by putting commands on the log."""
