# A guest may release what was not rescinded; it is offered again on the next connection only.
case 128
version 5.3
offer
G> RELID_RELEASED relid=1
= refused 0
G< silence
G> OPEN_CHANNEL relid=1
= refused 1
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1
G< ALL_OFFERS_DELIVERED
