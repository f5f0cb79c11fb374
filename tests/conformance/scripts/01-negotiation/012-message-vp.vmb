# From 3.0 on, messages go to the VP that the contact names.
case 012
option vps=4
offer
G> INITIATE_CONTACT version=5.3 vp=1
G< VERSION_RESPONSE supported=1 @vp=1 @sint=2
G> REQUEST_OFFERS
G< OFFER_CHANNEL @vp=1
G< ALL_OFFERS_DELIVERED @vp=1
