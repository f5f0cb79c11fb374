# Types that do not exist are refused in any state, and the connection goes on.
case 019
offer
G> hex 00000000 00000000
G> hex 1e000000 00000000
G> hex ffffffff 00000000
= refused 3
= disconnected
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> hex 00000000 00000000
G> hex 1e000000 00000000 00*232
G> hex ffffffff 00000000
= refused 6
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1
G< ALL_OFFERS_DELIVERED
