"""What an export would write, need and take, found out before it begins."""
