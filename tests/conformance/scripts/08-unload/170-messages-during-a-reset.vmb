# What the guest says during a reset waits until it is over.
case 170
version 5.3
offer
open relid=1
reset
H< close
H< teardown
= accepting 0
G> INITIATE_CONTACT version=5.3
G> REQUEST_OFFERS
G< silence
H> done
H> done
B< ResetDone
G< VERSION_RESPONSE supported=1
G< OFFER_CHANNEL relid=1
G< ALL_OFFERS_DELIVERED
= accepting 1
