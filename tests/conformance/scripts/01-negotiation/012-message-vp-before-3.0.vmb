# Before 3.0 every message goes to VP 0, whatever the contact names.
case 012
offer
G> INITIATE_CONTACT version=2.4 vp=1
G< VERSION_RESPONSE supported=1 @vp=0
G> INITIATE_CONTACT version=3.0 vp=1
G< VERSION_RESPONSE supported=1 @vp=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL @vp=1
G< ALL_OFFERS_DELIVERED @vp=1
