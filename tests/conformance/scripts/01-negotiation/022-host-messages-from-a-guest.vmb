# What only a host may send is refused from a guest, whatever state it is in.
case 022
version 5.3
offer
open relid=1
G> OFFER_CHANNEL relid=1
G> RESCIND_OFFER relid=1
G> ALL_OFFERS_DELIVERED
G> OPEN_RESULT relid=1
G> GPADL_CREATED relid=1 gpadl=1
G> GPADL_TORNDOWN gpadl=1
G> VERSION_RESPONSE
G> UNLOAD_COMPLETE
G> CLOSE_RESERVED_RESPONSE relid=1
G> TL_CONNECT_RESULT
G> MODIFY_CHANNEL_RESPONSE relid=1
G> MODIFY_CONNECTION_RESPONSE
G> PAUSE_RESPONSE
= refused 13
= connected 5.3
= open 1
