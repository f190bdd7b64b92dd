"""`penstock quarantine`: list, show, release and export refused rows."""
