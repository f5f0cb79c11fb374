# From 5.0 on every later message goes to the connection that was answered.
case 025 003
side guest
option versions=5.3
A> connect
G> INITIATE_CONTACT version=5.3 @connection=4
G< VERSION_RESPONSE supported=1 selected=1
G> REQUEST_OFFERS @connection=1
