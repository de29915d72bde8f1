"""What results show, one sentence for each threat, by stated rules."""
