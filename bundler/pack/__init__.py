"""The runtime to a runtime pack: frozen, its page made small, its licences collected."""
