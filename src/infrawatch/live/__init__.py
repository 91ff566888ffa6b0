"""What is new is pushed: committed entries, to whoever subscribed, without silent gaps."""
