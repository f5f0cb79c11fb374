# With pages, ids are given in order, and the lowest free one is used again.
case 299 297
option guest-pages
offer instance=1 offer_flags=MONITORED
offer instance=2 offer_flags=MONITORED
offer instance=3
G> INITIATE_CONTACT version=5.3 page1=0x10000 page2=0x20000
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 monitor=0 allocated=1
G< OFFER_CHANNEL relid=2 monitor=1 allocated=1
G< OFFER_CHANNEL relid=3 monitor=0xff allocated=0
G< ALL_OFFERS_DELIVERED
revoke relid=1
G< RESCIND_OFFER relid=1
G> RELID_RELEASED relid=1
H> offer instance=9 offer_flags=MONITORED
G< OFFER_CHANNEL relid=1 monitor=0 allocated=1
