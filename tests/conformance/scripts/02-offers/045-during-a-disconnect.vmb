# Offers made while a connection ends are in the next list.
case 045
version 5.3
offer instance=1
open relid=1
G> UNLOAD
H< close relid=1
H< teardown gpadl=1
H> offer instance=2
H< offer_result status=OK
G< silence
H> done
H> done
G< UNLOAD_COMPLETE
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 instance=1
G< OFFER_CHANNEL relid=2 instance=2
G< ALL_OFFERS_DELIVERED
