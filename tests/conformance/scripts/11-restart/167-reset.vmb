# A reset that waits for devices is done after the restart; one that opens is not waited for, and offered later.
case 167
version 5.3
offer instance=1
offer instance=2
gpadl relid=1
open relid=2
G> OPEN_CHANNEL relid=1
order any
H< open relid=1
reset
H< close relid=1
H< close relid=2
H< teardown relid=1
H< teardown relid=2
save
restore
= disconnecting
= accepting 0
H> close relid=2
H> teardown relid=2
= disconnected
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< ALL_OFFERS_DELIVERED
G< OFFER_CHANNEL instance=2
H> closed relid=1
H> teardown relid=1
G< OFFER_CHANNEL instance=1
