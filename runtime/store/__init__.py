"""The chats of one bundle, kept in one file on this computer. Knows no HTTP and no model."""
