# Only what is new is offered, and only to a guest that asked for offers.
case 206
version 5.3
offer instance=1
open relid=1
save
restore
H> offer instance=2
G< OFFER_CHANNEL relid=2 instance=2
silence
