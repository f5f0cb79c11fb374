# Flags of features that were not granted are cleared, all others pass.
case 042
version 5.3
H> offer flags=0xFFFF
G< OFFER_CHANNEL relid=1 flags=0xFFF1
