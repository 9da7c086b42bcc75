"""Reads: what happened and what is, per project, as lists of JSON items."""

from __future__ import annotations

from fastapi import APIRouter

from api.reads import hourly, lists

router = APIRouter()
# Hourly first: /v1/payments/hourly is no payment's id.
router.include_router(hourly.router)
router.include_router(lists.router)
