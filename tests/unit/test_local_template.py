"""What the local AWS is made of is what template.yaml says."""

import boto3
import pytest
from moto import mock_aws

from local import aws
from local.template import Template

SMALL = """
Parameters:
  Origins: { Type: CommaDelimitedList, Default: "https://a.example,https://b.example" }
  Rows: { Type: Number, Default: 3 }
Resources:
  Bucket:
    Properties:
      Name: !Sub ["x-${Id}", { Id: !Select [2, !Split ["/", !Ref AWS::StackId]] }]
      CorsConfiguration:
        CorsRules:
          - { AllowedOrigins: !Ref Origins, AllowedMethods: [GET], ExposedHeaders: [ETag], MaxAge: !Ref Rows }
"""


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@mock_aws
def test_the_local_table_has_the_templates_keys_indexes_and_time_to_live() -> None:
    dynamodb = boto3.client("dynamodb", region_name=aws.REGION)
    aws.create_table(dynamodb, Template.of_this_project())
    table = dynamodb.describe_table(TableName=aws.TABLE)["Table"]
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]
    assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"by_expiry", "by_owner"}
    lifetime = dynamodb.describe_time_to_live(TableName=aws.TABLE)["TimeToLiveDescription"]
    assert (lifetime["AttributeName"], lifetime["TimeToLiveStatus"]) == ("ttl", "ENABLED")


@mock_aws
def test_the_local_bucket_has_the_templates_cors_rules_and_sends_uploads_to_the_queue() -> None:
    s3, sqs = boto3.client("s3", region_name=aws.REGION), boto3.client("sqs", region_name=aws.REGION)
    url = sqs.create_queue(QueueName=aws.QUEUE)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.create_bucket(s3, Template.of_this_project(), arn)
    (rule,) = s3.get_bucket_cors(Bucket=aws.BUCKET)["CORSRules"]
    assert "POST" in rule["AllowedMethods"]
    found = s3.get_bucket_notification_configuration(Bucket=aws.BUCKET)
    (notification,) = found["QueueConfigurations"]
    assert notification["QueueArn"] == arn
    assert notification["Events"] == ["s3:ObjectCreated:*"]
    (prefix,) = notification["Filter"]["Key"]["FilterRules"]
    assert (prefix["Name"].lower(), prefix["Value"]) == ("prefix", "files/")


def test_a_reference_to_a_parameter_is_its_default() -> None:
    (rule,) = Template(SMALL).cors()["CORSRules"]
    assert rule == {
        "AllowedOrigins": ["https://a.example", "https://b.example"],
        "AllowedMethods": ["GET"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3,
    }


def test_a_resource_that_is_missing_is_named() -> None:
    with pytest.raises(LookupError, match="'Table'"):
        Template(SMALL).table()


def test_the_local_tick_is_the_schedulers_event() -> None:
    assert Template.of_this_project().tick() == {"source": "sandkeeper.schedule"}
