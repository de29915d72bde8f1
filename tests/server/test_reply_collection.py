"""What the server logs about clients whose replies it cannot use."""

import logging

from fedlab.protocol.abstention import Abstention
from fedlab.server.reply_collection import ReplyCollection


def test_clients_with_one_reason_share_a_line(caplog):
    collection = ReplyCollection(round=3)
    for client in range(10):
        collection.declined[client] = Abstention("withheld", "too few images")
    for client, reason in ((10, "late"), (11, "late"), (12, "it did not reply")):
        collection.refuse(client, reason)
    with caplog.at_level(logging.INFO):
        collection.report()
    assert caplog.messages == [
        "round 3: clients 0-9 declined: too few images",
        "round 3: clients 10-11 are skipped: late",
        "round 3: client 12 is skipped: it did not reply",
    ]
