# Without interrupts no bit is armed, so nothing keeps the pages from being changed.
case 302 064 304
option guest-pages
offer instance=1 offer_flags=MONITORED
G> INITIATE_CONTACT version=6.0 features=MODIFY_CONNECTION page1=0x10000 page2=0x20000
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 monitor=0
G< ALL_OFFERS_DELIVERED
open relid=1 vp=NONE
G> MODIFY_CONNECTION page1=0x30000 page2=0x40000
G< MODIFY_CONNECTION_RESPONSE state=0
