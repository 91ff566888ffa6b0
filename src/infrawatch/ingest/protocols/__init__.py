"""What other senders speak: one file a protocol, all of one shape (bytes → columns → answer)."""
