"""The commands: each opens a gateway, hands it to a door, and turns errors into exit codes. May import everything."""
