"""What only the program's own page asks for: its files, its face, its chats, quitting."""
