# A guest that goes without a word is unloaded without an answer, and the next one begins afresh.
case 176
version 5.3
offer
open relid=1
guest gone
H< close relid=1
H< teardown gpadl=1
H> done
H> done
= disconnected
guest attach
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1
G< ALL_OFFERS_DELIVERED
open relid=1
