# Without offers there is only the end of the list; it is asked for once.
case 033 034
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< ALL_OFFERS_DELIVERED
G> REQUEST_OFFERS
= refused 1
G< silence
