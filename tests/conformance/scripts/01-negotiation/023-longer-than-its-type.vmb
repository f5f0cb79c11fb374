# Bytes after a message of fixed size are ignored: some firmware always posts 240.
case 023
offer
G> INITIATE_CONTACT version=5.3 @size=240
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS @size=240
G< OFFER_CHANNEL relid=1
G< ALL_OFFERS_DELIVERED
gpadl relid=1 gpadl=1
G> OPEN_CHANNEL relid=1 open_id=7 gpadl=1 @size=240
H< open relid=1
H> done(0)
G< OPEN_RESULT relid=1 open_id=7 status=OK
