# No pages, no monitor id.
case 299 305
version 5.3
H> offer offer_flags=MONITORED
G< OFFER_CHANNEL relid=1 monitor=0xff allocated=0
