# A message shorter than its type needs is refused whole, and the next good one works.
case 018 313
G> hex
G> hex 0e
G> hex 0e000000
G> hex 0e000000000000
G> INITIATE_CONTACT version=5.3 @size=8
G> INITIATE_CONTACT version=5.3 @size=39
= refused 6
= disconnected
G> INITIATE_CONTACT version=5.3 @size=40
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS @size=7
= refused 7
G> REQUEST_OFFERS
G< ALL_OFFERS_DELIVERED
