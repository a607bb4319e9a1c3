"""The words of mail as values: addresses, envelopes, replies, outcomes, headers, reports. Pure."""
