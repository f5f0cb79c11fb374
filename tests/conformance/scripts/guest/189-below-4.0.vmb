# There are no sockets before 4.0, and no silos before 5.2.
case 189 191
side guest
version 3.0
A> connect_socket endpoint=1 service=9
A< error op=connect_socket kind=UsageError text="needs 4.0"
G> silence
