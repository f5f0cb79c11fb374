# Subchannels that find no room: the device is told, and what fits is offered.
case 112 306
option relid-offset=2044
version 5.3
offer max_subchannels=3
open relid=2045
H> enable_subchannels relid=2045 count=3
G< OFFER_CHANNEL relid=2046 subchannel=1
G< OFFER_CHANNEL relid=2047 subchannel=2
H< offer_result status=FAILED
H< subchannels_enabled status=FAILED live=2
