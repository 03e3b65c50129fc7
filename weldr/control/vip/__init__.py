"""Virtual IPs: who announces which, and how that stays true."""
