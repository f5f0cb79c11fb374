# An id that a relay has chosen is passed on and not counted.
case 300
option guest-pages
offer instance=1 offer_flags=MONITORED monitor_id=5
offer instance=2 offer_flags=MONITORED
G> INITIATE_CONTACT version=5.3 page1=0x10000 page2=0x20000
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 monitor=5 allocated=1
G< OFFER_CHANNEL relid=2 monitor=0 allocated=1
G< ALL_OFFERS_DELIVERED
