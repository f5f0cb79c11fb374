# At 5.3 the last word of the reply is the message connection, and every later message must use it.
case 002 003
offer
G> INITIATE_CONTACT version=5.3 @connection=4
G< VERSION_RESPONSE supported=1 state=0 selected=1 @size=16
= connected 5.3
G> REQUEST_OFFERS @connection=4
= refused 1
G> REQUEST_OFFERS @connection=7
= refused 2
G> REQUEST_OFFERS @connection=1
G< OFFER_CHANNEL relid=1
G< ALL_OFFERS_DELIVERED
