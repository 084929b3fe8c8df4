// Straight to S3, by the form that registering a file has answered with.

/** Resolves when S3 has the whole file. XMLHttpRequest, since fetch tells nothing of what it has sent. */
export function upload(
  form: { url: string; fields: Record<string, string> },
  file: File,
  onProgress: (share: number) => void,
): Promise<void> {
  const body = new FormData();
  for (const [name, value] of Object.entries(form.fields)) body.append(name, value);
  body.append("file", file); // S3 reads nothing behind it
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", form.url);
    request.upload.onprogress = (event) => onProgress(event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = () =>
      request.status < 300 ? resolve() : reject(new Error(`S3 refused ${file.name} with status ${request.status}`));
    request.onerror = () => reject(new Error(`the connection broke while ${file.name} was sent; try it again`));
    request.send(body);
  });
}
