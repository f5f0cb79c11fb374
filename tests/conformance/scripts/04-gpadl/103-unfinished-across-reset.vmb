# A new contact forgets what was unfinished.
case 103
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=5 pages=100
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1
G< ALL_OFFERS_DELIVERED
G> GPADL_BODY gpadl=5
= refused 1
gpadl relid=1 gpadl=5
